-- By the rules of kstatus: Stalled says that a person must act, and what was said of an older spec says nothing of this
-- one.
local status = obj.status or {}
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end
local ready, reconciling, stalled = conditions["Ready"], conditions["Reconciling"], conditions["Stalled"]
local outdated = status.observedGeneration ~= obj.metadata.generation
local unseen = {status = "Progressing", message = "Banyan has not looked at it yet"}
