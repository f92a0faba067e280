"""The simulated shop: what Shopify, Stripe and HubSpot would send of it, how they deliver it, and what is true."""
