"""webhooks: what Shopify, Stripe and HubSpot deliver, each event on the topic of its kind."""
