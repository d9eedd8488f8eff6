-- Stays at this weight; a Fail still goes back.
return say("pause", {kind = "CanaryRollout", name = obj.metadata.name}, obj.status.memory.rollout.release)
