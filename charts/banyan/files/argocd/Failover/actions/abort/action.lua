-- Gives it up, until the commit; what was closed is opened again.
return say("abort", {kind = "Failover", name = obj.metadata.name, uid = obj.metadata.uid})
