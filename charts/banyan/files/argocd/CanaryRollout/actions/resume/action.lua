-- Goes on after a pause.
-- It bears no label of the Application: what was said is no part of git, makes nothing OutOfSync, and is not pruned.
local action = {
  apiVersion = "banyan.dev/v1alpha1",
  kind = "Action",
  metadata = {
    generateName = obj.metadata.name .. "-resume-",
    namespace = obj.metadata.namespace,
  },
  spec = {
    target = {kind = "CanaryRollout", name = obj.metadata.name},
    verb = "resume",
    release = obj.status.memory.rollout.release,
    words = "said in ArgoCD",
  },
}
return {{operation = "create", resource = action}}
