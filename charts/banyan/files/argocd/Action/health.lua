if status.state == "Done" then
  return {status = "Healthy", message = status.message}
end
-- Refused, or it cannot be read.
if stalled ~= nil and stalled.status == "True" then
  return {status = "Degraded", message = stalled.message}
end
return {status = "Progressing", message = status.message or unseen.message}
