CREATE TABLE `certificate_names` (
	`name` text NOT NULL,
	`certificate_id` text NOT NULL,
	PRIMARY KEY(`name`, `certificate_id`),
	FOREIGN KEY (`certificate_id`) REFERENCES `certificates`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE INDEX `certificate_names_certificate` ON `certificate_names` (`certificate_id`);--> statement-breakpoint
CREATE INDEX `certificate_versions_by_serial` ON `certificate_versions` (`serial_number`);--> statement-breakpoint
INSERT INTO `certificate_names` (`name`, `certificate_id`)
	SELECT `common_name`, `id` FROM `certificates`
	UNION SELECT j.`value`, c.`id` FROM `certificates` c, json_each(c.`sans`) j;
--> statement-breakpoint
CREATE TRIGGER `certificate_names_insert` AFTER INSERT ON `certificates` BEGIN
	INSERT INTO `certificate_names` (`name`, `certificate_id`)
		SELECT new.`common_name`, new.`id` UNION SELECT `value`, new.`id` FROM json_each(new.`sans`);
END;
--> statement-breakpoint
CREATE TRIGGER `certificate_names_update` AFTER UPDATE OF `common_name`, `sans` ON `certificates`
	WHEN old.`common_name` <> new.`common_name` OR old.`sans` <> new.`sans` BEGIN
	DELETE FROM `certificate_names` WHERE `certificate_id` = new.`id`;
	INSERT INTO `certificate_names` (`name`, `certificate_id`)
		SELECT new.`common_name`, new.`id` UNION SELECT `value`, new.`id` FROM json_each(new.`sans`);
END;
