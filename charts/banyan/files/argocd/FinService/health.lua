if ready == nil or outdated then
  return unseen
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
