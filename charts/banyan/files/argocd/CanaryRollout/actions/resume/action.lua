-- Goes on after a pause.
return say("resume", {kind = "CanaryRollout", name = obj.metadata.name}, obj.status.memory.rollout.release)
