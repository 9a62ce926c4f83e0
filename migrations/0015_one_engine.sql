ALTER TABLE `work` ADD `lease_until` text;--> statement-breakpoint
ALTER TABLE `work` ADD `fence` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
-- A sweep that stood in the middle goes on from there; the rows of the others are made by the first tick.
INSERT INTO `work` (`id`, `kind`, `payload`, `state`, `attempts`, `due_at`, `created_at`)
	SELECT 'sweep.' || `name`, 'sweep.' || `name`, json_object('cursor', `cursor`), 'due', 0,
		strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
	FROM `sweeps` WHERE `cursor` IS NOT NULL AND `name` NOT IN ('work', 'prune');
--> statement-breakpoint
DROP TABLE `sweeps`;
