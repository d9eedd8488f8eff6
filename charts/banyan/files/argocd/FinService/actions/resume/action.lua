if obj.metadata.annotations ~= nil then
  obj.metadata.annotations["banyan.dev/pause"] = nil
end
return obj
