CREATE TABLE `blocked_keys` (
	`spki_sha256` text PRIMARY KEY NOT NULL,
	`reason` text NOT NULL,
	`certificate_id` text,
	`created_at` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `certificate_authorities` (
	`id` text PRIMARY KEY NOT NULL,
	`issuer_id` text NOT NULL,
	`parent_ca_id` text,
	`ledger_id` text NOT NULL,
	`ca_id` text NOT NULL,
	`name` text NOT NULL,
	`subject` text NOT NULL,
	`state` text NOT NULL,
	`cert_pem` text NOT NULL,
	`chain_pem` text NOT NULL,
	`csr_pem` text,
	`serial_number` text,
	`not_before` text,
	`not_after` text,
	`path_len_constraint` integer,
	`name_constraints` text NOT NULL,
	`algorithm` text NOT NULL,
	`name_hash_sha1` text NOT NULL,
	`key_hash_sha1` text NOT NULL,
	`name_hash_sha256` text NOT NULL,
	`key_hash_sha256` text NOT NULL,
	`metadata` text NOT NULL,
	`note` text,
	`created_at` text NOT NULL,
	`updated_at` text NOT NULL,
	`retired_at` text,
	FOREIGN KEY (`issuer_id`) REFERENCES `issuers`(`id`) ON UPDATE no action ON DELETE no action,
	FOREIGN KEY (`parent_ca_id`) REFERENCES `certificate_authorities`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE UNIQUE INDEX `certificate_authorities_ledger_id_unique` ON `certificate_authorities` (`ledger_id`);--> statement-breakpoint
CREATE UNIQUE INDEX `certificate_authorities_ca_id_unique` ON `certificate_authorities` (`ca_id`);--> statement-breakpoint
CREATE UNIQUE INDEX `certificate_authorities_name` ON `certificate_authorities` (`issuer_id`,`name`);--> statement-breakpoint
CREATE INDEX `certificate_authorities_parent` ON `certificate_authorities` (`parent_ca_id`);--> statement-breakpoint
CREATE TABLE `issuers` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`type` text NOT NULL,
	`config` text NOT NULL,
	`enabled` integer NOT NULL,
	`last_tested_at` text,
	`test_status` text NOT NULL,
	`created_at` text NOT NULL,
	`updated_at` text NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `issuers_name_unique` ON `issuers` (`name`);--> statement-breakpoint
CREATE TABLE `agents` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`hostname` text NOT NULL,
	`os` text NOT NULL,
	`architecture` text NOT NULL,
	`ip_address` text NOT NULL,
	`version` text NOT NULL,
	`last_heartbeat_at` text,
	`registered_at` text NOT NULL,
	`updated_at` text NOT NULL,
	`retired_at` text,
	`retired_reason` text
);
--> statement-breakpoint
CREATE UNIQUE INDEX `agents_name_unique` ON `agents` (`name`);--> statement-breakpoint
CREATE INDEX `agents_registered` ON `agents` (`registered_at`,`id`);--> statement-breakpoint
CREATE TABLE `targets` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`type` text NOT NULL,
	`agent_id` text NOT NULL,
	`config` text NOT NULL,
	`sealed_secrets` text,
	`enabled` integer NOT NULL,
	`retired_at` text,
	`retired_reason` text,
	`created_at` text NOT NULL,
	`updated_at` text NOT NULL,
	FOREIGN KEY (`agent_id`) REFERENCES `agents`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE UNIQUE INDEX `targets_name` ON `targets` (`agent_id`,`name`);--> statement-breakpoint
CREATE INDEX `targets_created` ON `targets` (`created_at`,`id`);--> statement-breakpoint
CREATE TABLE `owners` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`email` text NOT NULL,
	`team_id` text,
	`created_at` text NOT NULL,
	`updated_at` text NOT NULL,
	FOREIGN KEY (`team_id`) REFERENCES `teams`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE INDEX `owners_created` ON `owners` (`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `owners_team` ON `owners` (`team_id`);--> statement-breakpoint
CREATE TABLE `profiles` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`description` text NOT NULL,
	`allowed_key_algorithms` text NOT NULL,
	`max_ttl_seconds` integer NOT NULL,
	`allowed_ekus` text NOT NULL,
	`required_san_patterns` text NOT NULL,
	`spiffe_uri_pattern` text NOT NULL,
	`allow_short_lived` integer NOT NULL,
	`must_staple` integer NOT NULL,
	`subject` text NOT NULL,
	`enabled` integer NOT NULL,
	`created_at` text NOT NULL,
	`updated_at` text NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `profiles_name_unique` ON `profiles` (`name`);--> statement-breakpoint
CREATE INDEX `profiles_created` ON `profiles` (`created_at`,`id`);--> statement-breakpoint
CREATE TABLE `renewal_policies` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`renewal_window_days` integer NOT NULL,
	`auto_renew` integer NOT NULL,
	`max_retries` integer NOT NULL,
	`retry_interval_seconds` integer NOT NULL,
	`alert_thresholds_days` text NOT NULL,
	`certificate_profile_id` text,
	`created_at` text NOT NULL,
	`updated_at` text NOT NULL,
	FOREIGN KEY (`certificate_profile_id`) REFERENCES `profiles`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE UNIQUE INDEX `renewal_policies_name_unique` ON `renewal_policies` (`name`);--> statement-breakpoint
CREATE INDEX `renewal_policies_created` ON `renewal_policies` (`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `renewal_policies_profile` ON `renewal_policies` (`certificate_profile_id`);--> statement-breakpoint
CREATE TABLE `teams` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`description` text NOT NULL,
	`created_at` text NOT NULL,
	`updated_at` text NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `teams_name_unique` ON `teams` (`name`);--> statement-breakpoint
CREATE INDEX `teams_created` ON `teams` (`created_at`,`id`);--> statement-breakpoint
CREATE TABLE `jobs` (
	`id` text PRIMARY KEY NOT NULL,
	`type` text NOT NULL,
	`certificate_id` text NOT NULL,
	`target_id` text,
	`agent_id` text,
	`status` text NOT NULL,
	`attempts` integer NOT NULL,
	`max_attempts` integer NOT NULL,
	`last_error` text,
	`scheduled_at` text NOT NULL,
	`started_at` text,
	`completed_at` text,
	`created_at` text NOT NULL,
	`updated_at` text NOT NULL,
	`csr_pem` text,
	`csr_digest` text,
	`approved` text,
	`version_id` text,
	`lease_until` text,
	`fence` integer NOT NULL,
	FOREIGN KEY (`certificate_id`) REFERENCES `certificates`(`id`) ON UPDATE no action ON DELETE no action,
	FOREIGN KEY (`target_id`) REFERENCES `targets`(`id`) ON UPDATE no action ON DELETE no action,
	FOREIGN KEY (`agent_id`) REFERENCES `agents`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE INDEX `jobs_created` ON `jobs` (`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `jobs_status` ON `jobs` (`status`,`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `jobs_certificate` ON `jobs` (`certificate_id`,`created_at`);--> statement-breakpoint
CREATE INDEX `jobs_agent` ON `jobs` (`agent_id`,`status`);--> statement-breakpoint
CREATE INDEX `jobs_target` ON `jobs` (`target_id`);--> statement-breakpoint
CREATE INDEX `jobs_lease` ON `jobs` (`status`,`lease_until`);--> statement-breakpoint
CREATE UNIQUE INDEX `jobs_open` ON `jobs` (`certificate_id`,`agent_id`) WHERE "jobs"."type" in ('Issuance', 'Renewal') and "jobs"."status" in ('Pending', 'AwaitingCSR', 'AwaitingApproval', 'Running');--> statement-breakpoint
CREATE TABLE `certificate_targets` (
	`certificate_id` text NOT NULL,
	`target_id` text NOT NULL,
	PRIMARY KEY(`certificate_id`, `target_id`),
	FOREIGN KEY (`certificate_id`) REFERENCES `certificates`(`id`) ON UPDATE no action ON DELETE no action,
	FOREIGN KEY (`target_id`) REFERENCES `targets`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE INDEX `certificate_targets_target` ON `certificate_targets` (`target_id`);--> statement-breakpoint
CREATE TABLE `certificate_versions` (
	`id` text PRIMARY KEY NOT NULL,
	`certificate_id` text NOT NULL,
	`issuer_id` text NOT NULL,
	`ca_id` text NOT NULL,
	`ledger_id` text NOT NULL,
	`serial_number` text NOT NULL,
	`not_before` text NOT NULL,
	`not_after` text NOT NULL,
	`fingerprint_sha256` text NOT NULL,
	`pem_chain` text NOT NULL,
	`csr_pem` text,
	`key_algorithm` text NOT NULL,
	`key_size` integer NOT NULL,
	`agent_id` text,
	`job_id` text,
	`revoked_at` text,
	`revocation_reason` text,
	`created_at` text NOT NULL,
	FOREIGN KEY (`certificate_id`) REFERENCES `certificates`(`id`) ON UPDATE no action ON DELETE no action,
	FOREIGN KEY (`issuer_id`) REFERENCES `issuers`(`id`) ON UPDATE no action ON DELETE no action,
	FOREIGN KEY (`agent_id`) REFERENCES `agents`(`id`) ON UPDATE no action ON DELETE no action,
	CONSTRAINT "certificate_versions_no_key" CHECK("certificate_versions"."csr_pem" is null or instr("certificate_versions"."csr_pem", 'PRIVATE KEY') = 0)
);
--> statement-breakpoint
CREATE UNIQUE INDEX `certificate_versions_serial` ON `certificate_versions` (`ledger_id`,`serial_number`);--> statement-breakpoint
CREATE INDEX `certificate_versions_certificate` ON `certificate_versions` (`certificate_id`,`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `certificate_versions_issuer` ON `certificate_versions` (`issuer_id`);--> statement-breakpoint
CREATE INDEX `certificate_versions_agent` ON `certificate_versions` (`agent_id`);--> statement-breakpoint
CREATE INDEX `certificate_versions_fingerprint` ON `certificate_versions` (`fingerprint_sha256`);--> statement-breakpoint
CREATE TABLE `certificates` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`common_name` text NOT NULL,
	`sans` text NOT NULL,
	`environment` text NOT NULL,
	`owner_id` text NOT NULL,
	`team_id` text NOT NULL,
	`issuer_id` text NOT NULL,
	`renewal_policy_id` text NOT NULL,
	`certificate_profile_id` text,
	`tags` text NOT NULL,
	`status` text NOT NULL,
	`expires_at` text,
	`last_renewal_at` text,
	`last_deployment_at` text,
	`revoked_at` text,
	`revocation_reason` text,
	`created_at` text NOT NULL,
	`updated_at` text NOT NULL,
	FOREIGN KEY (`owner_id`) REFERENCES `owners`(`id`) ON UPDATE no action ON DELETE no action,
	FOREIGN KEY (`team_id`) REFERENCES `teams`(`id`) ON UPDATE no action ON DELETE no action,
	FOREIGN KEY (`issuer_id`) REFERENCES `issuers`(`id`) ON UPDATE no action ON DELETE no action,
	FOREIGN KEY (`renewal_policy_id`) REFERENCES `renewal_policies`(`id`) ON UPDATE no action ON DELETE no action,
	FOREIGN KEY (`certificate_profile_id`) REFERENCES `profiles`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE UNIQUE INDEX `certificates_name_unique` ON `certificates` (`name`);--> statement-breakpoint
CREATE INDEX `certificates_created` ON `certificates` (`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `certificates_expiry` ON `certificates` (`status`,`expires_at`);--> statement-breakpoint
CREATE INDEX `certificates_expires` ON `certificates` (`expires_at`,`id`);--> statement-breakpoint
CREATE INDEX `certificates_owner` ON `certificates` (`owner_id`,`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `certificates_team` ON `certificates` (`team_id`,`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `certificates_issuer` ON `certificates` (`issuer_id`,`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `certificates_policy` ON `certificates` (`renewal_policy_id`);--> statement-breakpoint
CREATE INDEX `certificates_profile` ON `certificates` (`certificate_profile_id`,`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `certificates_environment` ON `certificates` (`environment`,`created_at`,`id`);--> statement-breakpoint
CREATE INDEX `certificates_common_name` ON `certificates` (`common_name`,`id`);