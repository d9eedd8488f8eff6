-- Does not wait for other clusters.
return say("skip-after", {kind = "CanaryRollout", name = obj.metadata.name}, obj.status.memory.rollout.release)
