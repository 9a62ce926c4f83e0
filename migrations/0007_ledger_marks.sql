CREATE TABLE `ledger_marks` (
	`ledger_id` text PRIMARY KEY NOT NULL,
	`seq` integer NOT NULL,
	`restoring_since` text
);
