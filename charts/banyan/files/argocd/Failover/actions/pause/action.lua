-- Stops before the next step that can wait.
-- It bears no label of the Application: what was said is no part of git, makes nothing OutOfSync, and is not pruned.
local action = {
  apiVersion = "banyan.dev/v1alpha1",
  kind = "Action",
  metadata = {
    generateName = obj.metadata.name .. "-pause-",
    namespace = obj.metadata.namespace,
  },
  spec = {
    target = {kind = "Failover", name = obj.metadata.name, uid = obj.metadata.uid},
    verb = "pause",
    words = "said in ArgoCD",
  },
}
return {{operation = "create", resource = action}}
