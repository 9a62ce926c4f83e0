-- Alerts of events until now were queued with them; the reaction to events begins with the next one.
INSERT INTO `work` (`id`, `kind`, `payload`, `state`, `attempts`, `due_at`, `created_at`)
	SELECT 'reaction.alerts', 'reaction.alerts', json_object('after', coalesce(max(`seq`), 0)), 'due', 0,
		strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
	FROM `audit_events`;
