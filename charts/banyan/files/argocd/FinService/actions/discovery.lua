local paused = (obj.metadata.annotations or {})["banyan.dev/pause"] == "true"
return {
  pause = {disabled = paused},
  resume = {disabled = not paused},
}
