-- A version is found by issuer and serial. Nothing is changed where a version is not of the CA that its ledger is of: the two would
-- no longer mean the same certificate. ("malformed JSON" then means this.)
SELECT CASE WHEN EXISTS (
	SELECT 1 FROM `certificate_versions` v WHERE NOT EXISTS (
		SELECT 1 FROM `certificate_authorities` c
		WHERE c.`ledger_id` = v.`ledger_id` AND c.`issuer_id` = v.`issuer_id` AND c.`ca_id` = v.`ca_id`
	)
) THEN json('a version is not of the CA of its ledger') END;--> statement-breakpoint
DROP INDEX `certificate_versions_issuer`;--> statement-breakpoint
DROP INDEX `certificate_versions_serial`;--> statement-breakpoint
CREATE UNIQUE INDEX `certificate_versions_serial` ON `certificate_versions` (`issuer_id`,`serial_number`);--> statement-breakpoint
ALTER TABLE `certificate_versions` DROP COLUMN `ledger_id`;--> statement-breakpoint
ALTER TABLE `jobs` ADD `order_reference` text;
