local status = obj.status or {}
local stalled
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Stalled" then
    stalled = condition
  end
end
if status.state == "Done" then
  return {status = "Healthy", message = status.message}
end
-- Refused, or it cannot be read.
if stalled ~= nil and stalled.status == "True" then
  return {status = "Degraded", message = stalled.message}
end
return {status = "Progressing", message = status.message or "Banyan has not looked at it yet"}
