-- Stops before the next step that can wait.
return say("pause", {kind = "Failover", name = obj.metadata.name, uid = obj.metadata.uid})
