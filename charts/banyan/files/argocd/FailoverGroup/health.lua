-- Whether the group could move now. Unknown is no good news, and is being looked into.
if ready == nil or outdated then
  return unseen
end
if stalled ~= nil and stalled.status == "True" then
  return {status = "Degraded", message = stalled.message}
end
-- The same folder goes to every cluster; a group of other sites is no fault of this one.
if ready.status == "True" or ready.reason == "OtherSites" then
  return {status = "Healthy", message = ready.message}
end
local message = ready.message
-- Problems stand there worst first, so that the first is the one that Ready speaks of.
local worst = (status.problems or {})[1]
if worst ~= nil and worst.remedy ~= nil and worst.remedy ~= "" then
  message = message .. "; " .. worst.remedy
end
if ready.status == "False" then
  return {status = "Degraded", message = message}
end
return {status = "Progressing", message = message}
