-- What would not be refused as it stands. What a person vouches for with the own name is not among them: `approve`, `force`,
-- `skip`, `assert-fenced` and `accept-data-loss`.
local status = obj.status or {}
local over = {Done = true, Aborted = true, Superseded = true, Refused = true}
local open = not over[status.phase or ""]
local ends = not open or status.committedAt ~= nil or status.aborted == true
return {
  abort = {disabled = ends},
  pause = {disabled = ends or status.paused == true},
  resume = {disabled = not open or status.paused ~= true},
}
