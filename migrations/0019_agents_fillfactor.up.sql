-- Room on each page of agents, so that writing an agent's host facts touches no index: an update that does not fit
-- on its page adds the agent to every index again, which takes three times as long as before with the search index.
-- It holds for pages written from now on.

ALTER TABLE agents SET (fillfactor = 70);

INSERT INTO schema_support VALUES (19, '{0,2,0}');
