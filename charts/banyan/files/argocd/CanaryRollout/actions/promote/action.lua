-- Skips what is left of holds, verdicts and gates; never a gate that waits for a person, missing pods, other clusters, or a
-- Fail.
return say("promote", {kind = "CanaryRollout", name = obj.metadata.name}, obj.status.memory.rollout.release)
