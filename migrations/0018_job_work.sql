-- What is being signed, or was ordered and is answered later, has a row of work from now on.
INSERT INTO `work` (`id`, `kind`, `payload`, `state`, `attempts`, `due_at`, `created_at`)
	SELECT 'work-' || `id`, CASE WHEN `order_reference` IS NULL THEN 'job.sign' ELSE 'job.poll' END,
		json_object('job_id', `id`), 'due', 0, coalesce(`lease_until`, `updated_at`), `updated_at`
	FROM `jobs` WHERE `status` = 'Running' AND `type` IN ('Issuance', 'Renewal');
--> statement-breakpoint
DROP INDEX `jobs_lease`;--> statement-breakpoint
ALTER TABLE `jobs` DROP COLUMN `lease_until`;
