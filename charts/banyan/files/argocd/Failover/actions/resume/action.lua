-- Goes on after a pause.
return say("resume", {kind = "Failover", name = obj.metadata.name, uid = obj.metadata.uid})
