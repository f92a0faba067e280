"""The unit shopify: orders of the Shopify shop, as webhooks bring them, into `sales.unified`."""
