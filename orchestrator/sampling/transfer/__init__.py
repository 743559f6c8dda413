"""Transfer from studies on other data: what an earlier study says about the candidates of this."""
