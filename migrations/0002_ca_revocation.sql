ALTER TABLE `certificate_authorities` ADD `revoked_at` text;--> statement-breakpoint
ALTER TABLE `certificate_authorities` ADD `revocation_reason` text;