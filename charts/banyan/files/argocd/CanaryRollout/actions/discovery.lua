-- What would not be refused as it stands. `approve` is not among them: an approval is a person's, and ArgoCD is none.
local status = obj.status or {}
local memory = status.memory or {}
local rollout, warm = memory.rollout, memory.warm
local rolling = rollout ~= nil
local weight = rolling and rollout.weight or 0
local paused = rolling and rollout.paused ~= nil
-- A step under which stable failed as well was taken back, and a person says whether it is tried again.
local asked = rolling and rollout.steppedBack ~= nil and rollout.steppedBack.asks
-- With an error of the policy nothing goes forward, and nothing is to go forward later by itself.
local free = status.phase ~= "Blocked"
local function only(when)
  return {disabled = not when}
end
return {
  ["abort"] = only(rolling or warm ~= nil),
  ["pause"] = only(rolling and not paused),
  ["resume"] = only(paused),
  ["promote"] = only(rolling and free),
  ["retry"] = only(not rolling and status.phase == "RolledBack"),
  ["skip-step"] = only(rolling and free and (weight > 0 or asked) or not rolling and warm ~= nil),
  ["skip-after"] = only(rolling and free and weight == 0 and obj.spec.after ~= nil),
}
