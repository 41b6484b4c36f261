-- Lookups that stay lookups. A plan that is made while a table is still small, or before it was
-- ever analysed, may pick an index of which only a coarse first column fits (the source of an event,
-- the repository of a run), and then reads everything under it. With the telling column first, or
-- with no such choice, there is nothing to pick wrongly.

ALTER TABLE events
    DROP CONSTRAINT events_delivery, ADD CONSTRAINT events_delivery UNIQUE (delivery_id, source),
    DROP CONSTRAINT events_digest, ADD CONSTRAINT events_digest UNIQUE (body_digest, source);

-- Called in `id = ANY (fermata_addressed(…))`: as a volatile function it was worked out anew for
-- every row of `runs`. It writes nothing; stable, it is worked out once. In a generic plan the
-- criteria that may be absent are filters only, so that each branch goes by its leading criterion.
ALTER FUNCTION fermata_addressed(jsonb) STABLE SET plan_cache_mode = force_generic_plan;
