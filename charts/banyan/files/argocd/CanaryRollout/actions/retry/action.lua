-- Tries the revision that failed again.
return say("retry", {kind = "CanaryRollout", name = obj.metadata.name}, obj.status.release)
