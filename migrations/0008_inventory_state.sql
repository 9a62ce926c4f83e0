CREATE TABLE `inventory_state` (
	`id` integer PRIMARY KEY NOT NULL,
	`beat` integer NOT NULL,
	`recovering_since` text
);
