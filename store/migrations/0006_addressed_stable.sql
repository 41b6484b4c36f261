-- Called in `id = ANY (fermata_addressed(…))`: as a volatile function it was worked out anew for
-- every row of `runs`, so that the cost of a signal grew with the number of runs ever made. Nothing
-- is written in it, and stable it is worked out once and looked up by the primary key.

ALTER FUNCTION fermata_addressed(jsonb) STABLE;
