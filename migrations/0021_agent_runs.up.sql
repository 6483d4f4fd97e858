-- Tells two processes with one identity apart: a copied disk, or a volume that two containers share. A process draws
-- an id when it starts and says with each later heartbeat that it goes on. One that goes on while the last heartbeat
-- was another process's is a second one. A hash: 4 bytes in a row that every heartbeat writes.

ALTER TABLE agent_liveness ADD COLUMN run_hash int4;

INSERT INTO schema_support VALUES (21, '{0,2,0}');
