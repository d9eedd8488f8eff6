-- Operators alone write it, so it is in no Application; this is for the tree of resources.
if status.state == nil or outdated then
  return unseen
end
for _, problem in ipairs(status.problems or {}) do
  if problem.severity == "Error" then
    return {status = "Degraded", message = problem.message .. ". " .. problem.remedy}
  end
end
if status.state == "Held" or status.state == "Standby" then
  return {status = "Healthy", message = status.message}
end
-- This site claims nothing and sends traffic elsewhere until it has read who may write.
if status.state == "Lost" then
  return {status = "Degraded", message = status.message}
end
return {status = "Progressing", message = status.message}
