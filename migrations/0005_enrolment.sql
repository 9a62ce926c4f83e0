ALTER TABLE `agents` ADD `credential_id` text;--> statement-breakpoint
CREATE INDEX `agents_credential` ON `agents` (`credential_id`);--> statement-breakpoint
CREATE INDEX `agents_retired` ON `agents` (`retired_at`,`id`);