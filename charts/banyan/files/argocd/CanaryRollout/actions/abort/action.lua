-- Back to stable at once. It names no release: it is meant for whatever is on its way.
-- It bears no label of the Application: what was said is no part of git, makes nothing OutOfSync, and is not pruned.
local action = {
  apiVersion = "banyan.dev/v1alpha1",
  kind = "Action",
  metadata = {
    generateName = obj.metadata.name .. "-abort-",
    namespace = obj.metadata.namespace,
  },
  spec = {
    target = {kind = "CanaryRollout", name = obj.metadata.name},
    verb = "abort",
    words = "said in ArgoCD",
  },
}
return {{operation = "create", resource = action}}
