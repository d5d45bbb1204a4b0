-- What Argo CD shows of NameServerSets, BrokerGroups, Topics and ConsumerGroups: one script for all four, by their conditions.
local hs = { status = "Progressing", message = "the operator has not looked at it yet" }
local status = obj.status
if status == nil or status.conditions == nil or status.observedGeneration ~= obj.metadata.generation then
  return hs
end

local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end
local function is(type, value)
  return conditions[type] ~= nil and conditions[type].status == value
end
local function because(type, reason)
  return conditions[type] ~= nil and conditions[type].reason == reason
end
local function say(health, type)
  hs.status = health
  hs.message = conditions[type].message
  return hs
end

-- It does not go by itself.
if is("Stalled", "True") then return say("Degraded", "Stalled") end
if is("DataLossPossible", "True") then return say("Degraded", "DataLossPossible") end
-- It works, or seems to, and not as it is declared or not for long.
local bad = { UnknownKey = true, Rejected = true, StorageFull = true, Full = true, Damaged = true, Expired = true }
for _, condition in ipairs(status.conditions) do
  if condition.status == "False" and bad[condition.reason] then return say("Degraded", condition.type) end
end
-- Somebody wants it to rest. A roll that waits hides nothing.
if because("Reconciling", "Paused") or (because("Reconciling", "RolloutPaused") and is("Ready", "True")) then
  return say("Suspended", "Reconciling")
end
if is("Reconciling", "True") then return say("Progressing", "Reconciling") end
if because("Ready", "Hibernated") then return say("Suspended", "Ready") end
if is("Ready", "True") then return say("Healthy", "Ready") end
if is("Ready", "False") then return say("Progressing", "Ready") end
return hs
