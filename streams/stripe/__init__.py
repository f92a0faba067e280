"""The unit stripe: charges of Stripe that pay no order, as webhooks bring them, into `sales.unified`."""
