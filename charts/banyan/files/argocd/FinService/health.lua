-- By the rules of kstatus: Stalled says that a person must act, and what was said of an older spec says nothing of this
-- one.
local status = obj.status or {}
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end
local ready, reconciling, stalled = conditions["Ready"], conditions["Reconciling"], conditions["Stalled"]
if ready == nil or status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "Banyan has not looked at it yet"}
end
if stalled ~= nil and stalled.status == "True" then
  return {status = "Degraded", message = stalled.message}
end
if ready.reason == "Paused" then
  return {status = "Suspended", message = ready.message}
end
-- It is Ready while a new revision is on its way, since the old one serves; but it is not what git says yet.
if reconciling ~= nil and reconciling.status == "True" then
  return {status = "Progressing", message = reconciling.message}
end
if ready.status == "True" then
  return {status = "Healthy", message = ready.message}
end
return {status = "Degraded", message = ready.message}
