if ready == nil or outdated then
  return unseen
end
if stalled ~= nil and stalled.status == "True" then
  return {status = "Degraded", message = stalled.message}
end
-- Where nothing rolls out there is nothing to say.
local message = status.message or ready.message
local rollout = (status.memory or {}).rollout or {}
if status.phase == "Paused" then
  -- Else it is the FinService that is paused.
  if rollout.paused ~= nil then
    message = message .. "; to go on, run `kubectl banyan canary resume " .. obj.metadata.name
      .. " -n " .. obj.metadata.namespace .. "`"
  end
  return {status = "Suspended", message = message}
end
-- A gate that a query or a web server opens is on its way; one that a person opens is not.
if status.phase == "Gated" then
  local people = {}
  for _, gate in ipairs(obj.spec.gates or {}) do
    if gate.approval ~= nil then
      people["approval " .. gate.at] = gate.at
    end
  end
  for _, at in ipairs(rollout.approvals or {}) do
    people["approval " .. at] = at
  end
  for _, gate in ipairs(rollout.gates or {}) do
    local at = people[gate.what]
    if at ~= nil and at > (rollout.weight or 0) and not gate.open then
      return {status = "Suspended", message = message}
    end
  end
end
if reconciling ~= nil and reconciling.status == "True" then
  return {status = "Progressing", message = message}
end
if ready.status == "True" then
  return {status = "Healthy", message = message}
end
return {status = "Degraded", message = message}
