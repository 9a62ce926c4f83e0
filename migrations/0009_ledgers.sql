CREATE TABLE `ledgers` (
	`id` text PRIMARY KEY NOT NULL,
	`created_at` text NOT NULL,
	`problems` text
);
