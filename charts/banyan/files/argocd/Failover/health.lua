if status.phase == nil or outdated then
  return unseen
end
local message = status.message or status.phase
if status.phase == "Done" then
  return {status = "Healthy", message = message}
end
-- It is over, and the group has not moved by it.
if status.phase == "Refused" or status.phase == "Aborted" or status.phase == "Superseded" then
  return {status = "Degraded", message = status.phase .. ": " .. message}
end
if status.phase == "Waiting" then
  if status.next ~= nil then
    message = message .. "; next: " .. status.next
  end
  -- Nothing is wrong: a person stopped it, or has to agree.
  if status.reason == "Paused" or status.reason == "NotApproved" then
    return {status = "Suspended", message = message}
  end
  return {status = "Degraded", message = message}
end
-- It comes by itself, but a person may leave it out.
if status.next ~= nil then
  message = message .. "; or: " .. status.next
end
return {status = "Progressing", message = message}
