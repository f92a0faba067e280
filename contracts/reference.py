"""Reference data of the retailer: the known cities, with their regions, and its products."""

CITIES = {
    "São Paulo": "Sudeste",
    "Rio de Janeiro": "Sudeste",
    "Belo Horizonte": "Sudeste",
    "Curitiba": "Sul",
    "Porto Alegre": "Sul",
    "Salvador": "Nordeste",
    "Brasília": "Centro-Oeste",
    "Florianópolis": "Sul",
    "Recife": "Nordeste",
    "Fortaleza": "Nordeste",
}
"""Region by city, in the city's canonical spelling."""

PRODUCTS = ("Laptop", "Monitor", "Keyboard", "Mouse", "Headset", "Webcam", "SSD", "RAM", "GPU", "Motherboard")
COUNTRY = "BR"
