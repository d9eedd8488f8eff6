-- Gives it up, until the commit; what was closed is opened again.
-- It bears no label of the Application: what was said is no part of git, makes nothing OutOfSync, and is not pruned.
local action = {
  apiVersion = "banyan.dev/v1alpha1",
  kind = "Action",
  metadata = {
    generateName = obj.metadata.name .. "-abort-",
    namespace = obj.metadata.namespace,
  },
  spec = {
    target = {kind = "Failover", name = obj.metadata.name, uid = obj.metadata.uid},
    verb = "abort",
    words = "said in ArgoCD",
  },
}
return {{operation = "create", resource = action}}
