CREATE TABLE `agent_credentials` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`prefix` text NOT NULL,
	`token_hash` text NOT NULL,
	`max_uses` integer NOT NULL,
	`uses` integer NOT NULL,
	`expires_at` text NOT NULL,
	`revoked_at` text,
	`created_by` text NOT NULL,
	`owner_type` text NOT NULL,
	`owner_id` text NOT NULL,
	`last_used_at` text,
	`created_at` text NOT NULL,
	`updated_at` text NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `agent_credentials_token_hash_unique` ON `agent_credentials` (`token_hash`);--> statement-breakpoint
CREATE INDEX `agent_credentials_created` ON `agent_credentials` (`created_at`,`id`);--> statement-breakpoint
CREATE TABLE `breakglass_credentials` (
	`id` text PRIMARY KEY NOT NULL,
	`actor_id` text NOT NULL,
	`password_hash` text NOT NULL,
	`created_by` text NOT NULL,
	`created_at` text NOT NULL,
	`updated_at` text NOT NULL,
	`last_used_at` text,
	FOREIGN KEY (`actor_id`) REFERENCES `users`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE UNIQUE INDEX `breakglass_credentials_actor_id_unique` ON `breakglass_credentials` (`actor_id`);--> statement-breakpoint
CREATE TABLE `denied_attempts` (
	`address` text NOT NULL,
	`reason` text NOT NULL,
	`minute` text NOT NULL,
	`count` integer NOT NULL,
	`request_id` text NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `denied_attempts_key` ON `denied_attempts` (`minute`,`address`,`reason`);--> statement-breakpoint
CREATE TABLE `oidc_group_mappings` (
	`id` text PRIMARY KEY NOT NULL,
	`tenant_id` text NOT NULL,
	`provider_id` text NOT NULL,
	`group_name` text NOT NULL,
	`role_id` text NOT NULL,
	`scope_type` text NOT NULL,
	`scope_id` text NOT NULL,
	`created_by` text NOT NULL,
	`created_at` text NOT NULL,
	FOREIGN KEY (`provider_id`) REFERENCES `oidc_providers`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE UNIQUE INDEX `oidc_group_mappings_grant` ON `oidc_group_mappings` (`provider_id`,`group_name`,`role_id`,`scope_type`,`scope_id`);--> statement-breakpoint
CREATE INDEX `oidc_group_mappings_role` ON `oidc_group_mappings` (`role_id`);--> statement-breakpoint
CREATE TABLE `oidc_provider_state` (
	`provider_id` text PRIMARY KEY NOT NULL,
	`issuer_url` text NOT NULL,
	`discovery` text,
	`jwks` text,
	`fetched_at` text,
	`attempted_at` text,
	`refresh_count` integer NOT NULL,
	`rejected_jws_count` integer NOT NULL,
	`last_error` text,
	FOREIGN KEY (`provider_id`) REFERENCES `oidc_providers`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE TABLE `oidc_providers` (
	`id` text PRIMARY KEY NOT NULL,
	`tenant_id` text NOT NULL,
	`name` text NOT NULL,
	`issuer_url` text NOT NULL,
	`client_id` text NOT NULL,
	`sealed_client_secret` text NOT NULL,
	`redirect_uri` text NOT NULL,
	`groups_claim_path` text NOT NULL,
	`groups_claim_format` text NOT NULL,
	`fetch_userinfo` integer NOT NULL,
	`scopes` text NOT NULL,
	`allowed_email_domains` text NOT NULL,
	`iat_window_seconds` integer NOT NULL,
	`jwks_cache_ttl_seconds` integer NOT NULL,
	`enabled` integer NOT NULL,
	`created_at` text NOT NULL,
	`updated_at` text NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `oidc_providers_name_unique` ON `oidc_providers` (`name`);--> statement-breakpoint
CREATE TABLE `oidc_sessions` (
	`session_id` text PRIMARY KEY NOT NULL,
	`provider_id` text NOT NULL,
	`user_id` text NOT NULL,
	`sid` text NOT NULL,
	`sealed_id_token` text,
	`expires_at` text NOT NULL,
	FOREIGN KEY (`provider_id`) REFERENCES `oidc_providers`(`id`) ON UPDATE no action ON DELETE no action,
	FOREIGN KEY (`user_id`) REFERENCES `users`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE INDEX `oidc_sessions_sid` ON `oidc_sessions` (`provider_id`,`sid`);--> statement-breakpoint
CREATE INDEX `oidc_sessions_expires` ON `oidc_sessions` (`expires_at`);--> statement-breakpoint
CREATE TABLE `role_permissions` (
	`role_id` text NOT NULL,
	`permission` text NOT NULL,
	`scope_type` text NOT NULL,
	`scope_id` text NOT NULL,
	`granted_by` text NOT NULL,
	`created_at` text NOT NULL,
	FOREIGN KEY (`role_id`) REFERENCES `roles`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE UNIQUE INDEX `role_permissions_grant` ON `role_permissions` (`role_id`,`permission`,`scope_type`,`scope_id`);--> statement-breakpoint
CREATE TABLE `roles` (
	`id` text PRIMARY KEY NOT NULL,
	`tenant_id` text NOT NULL,
	`name` text NOT NULL,
	`description` text NOT NULL,
	`created_at` text NOT NULL,
	`updated_at` text NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `roles_name_unique` ON `roles` (`name`);--> statement-breakpoint
CREATE TABLE `session_keys` (
	`id` text PRIMARY KEY NOT NULL,
	`sealed_key` text NOT NULL,
	`created_at` text NOT NULL,
	`retired_at` text
);
--> statement-breakpoint
CREATE UNIQUE INDEX `session_keys_present` ON `session_keys` (("retired_at" is null)) WHERE "session_keys"."retired_at" is null;--> statement-breakpoint
CREATE TABLE `users` (
	`id` text PRIMARY KEY NOT NULL,
	`tenant_id` text NOT NULL,
	`oidc_provider_id` text NOT NULL,
	`oidc_subject` text NOT NULL,
	`email` text NOT NULL,
	`display_name` text NOT NULL,
	`last_login_at` text,
	`deactivated_at` text,
	`created_at` text NOT NULL,
	`updated_at` text NOT NULL,
	FOREIGN KEY (`oidc_provider_id`) REFERENCES `oidc_providers`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE UNIQUE INDEX `users_subject` ON `users` (`oidc_provider_id`,`oidc_subject`);--> statement-breakpoint
CREATE INDEX `users_created` ON `users` (`created_at`,`id`);--> statement-breakpoint
DROP INDEX `actor_roles_grant`;--> statement-breakpoint
ALTER TABLE `actor_roles` ADD `mapping_id` text DEFAULT '' NOT NULL;--> statement-breakpoint
CREATE UNIQUE INDEX `actor_roles_source` ON `actor_roles` (`actor_type`,`actor_id`,`role_id`,`scope_type`,`scope_id`,`mapping_id`);--> statement-breakpoint
CREATE INDEX `actor_roles_mapping` ON `actor_roles` (`mapping_id`);--> statement-breakpoint
ALTER TABLE `api_keys` ADD `owner_type` text DEFAULT 'System' NOT NULL;--> statement-breakpoint
ALTER TABLE `api_keys` ADD `owner_id` text DEFAULT 'system' NOT NULL;--> statement-breakpoint
CREATE INDEX `api_keys_owner` ON `api_keys` (`owner_type`,`owner_id`);