"""What serves: models, workers, routers, as the gateway knows them."""
