-- A peer that is silent is Progressing and not Degraded: it is asked again, and a cloud that is gone must not fail the
-- syncs of the one that is left.
local waits = ready == nil or outdated
local spec = obj.spec or {}
-- Of a peer to which no way leads nothing is ever said.
if waits and spec.access == nil and spec.kubeconfig == nil and (ready == nil or ready.reason ~= "OwnSite") then
  return {status = "Healthy", message = "spec.access names no way to it, so nothing is asked of it"}
end
if waits then
  return unseen
end
if stalled ~= nil and stalled.status == "True" then
  return {status = "Degraded", message = stalled.message}
end
if ready.status == "True" then
  return {status = "Healthy", message = ready.message}
end
return {status = "Progressing", message = ready.message}
