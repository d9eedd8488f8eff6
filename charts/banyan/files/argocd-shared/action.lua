-- What is said is an Action. It bears no label of the Application: what was said is no part of git, makes nothing OutOfSync,
-- and is not pruned.
local function say(verb, target, release)
  local action = {
    apiVersion = "banyan.dev/v1alpha1",
    kind = "Action",
    metadata = {
      generateName = obj.metadata.name .. "-" .. verb .. "-",
      namespace = obj.metadata.namespace,
    },
    spec = {target = target, verb = verb, release = release, words = "said in ArgoCD"},
  }
  return {{operation = "create", resource = action}}
end
