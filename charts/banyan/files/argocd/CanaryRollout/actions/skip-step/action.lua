-- Does not wait any longer at this step, or ends the rollback window.
-- It bears no label of the Application: what was said is no part of git, makes nothing OutOfSync, and is not pruned.
local memory = obj.status.memory
local action = {
  apiVersion = "banyan.dev/v1alpha1",
  kind = "Action",
  metadata = {
    generateName = obj.metadata.name .. "-skip-step-",
    namespace = obj.metadata.namespace,
  },
  spec = {
    target = {kind = "CanaryRollout", name = obj.metadata.name},
    verb = "skip-step",
    release = (memory.rollout or memory.warm).release,
    words = "said in ArgoCD",
  },
}
return {{operation = "create", resource = action}}
