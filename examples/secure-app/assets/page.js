document.getElementById("script-sees").textContent = document.cookie ? document.cookie : '"" (nothing)';
document.getElementById("script-ran").textContent = " (a script on this page has just looked)";
