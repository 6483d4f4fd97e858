-- Room on each page of agents, so that writing an agent's host facts touches no index: with the page full, each
-- update adds the agent to every index again. It holds for pages written from now on.

ALTER TABLE agents SET (fillfactor = 85);

INSERT INTO schema_support VALUES (19, '{0,2,0}');
