CREATE TABLE `work` (
	`id` text PRIMARY KEY NOT NULL,
	`kind` text NOT NULL,
	`payload` text NOT NULL,
	`state` text NOT NULL,
	`attempts` integer NOT NULL,
	`due_at` text NOT NULL,
	`last_error` text,
	`created_at` text NOT NULL
);
--> statement-breakpoint
CREATE INDEX `work_due` ON `work` (`kind`,`state`,`due_at`,`id`);--> statement-breakpoint
CREATE INDEX `work_state` ON `work` (`state`,`created_at`,`id`);--> statement-breakpoint
INSERT INTO `work` (`id`, `kind`, `payload`, `state`, `attempts`, `due_at`, `last_error`, `created_at`)
	SELECT `id`, `topic`, `payload`, CASE `state` WHEN 'pending' THEN 'due' ELSE 'dead' END, `attempts`,
		max(`due_at`, coalesce(`lease_until`, `due_at`)), `last_error`, `created_at`
	FROM `outbox` WHERE `state` IN ('pending', 'dead');
