-- Banyan writes nothing more for this FinService, but a rollout that fails is still taken back. git does not name the
-- annotation, so no sync takes it away.
if obj.metadata.annotations == nil then
  obj.metadata.annotations = {}
end
obj.metadata.annotations["banyan.dev/pause"] = "true"
return obj
