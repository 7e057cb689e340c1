"""The words of the generated catalog. Brands are invented."""

# Of each category of AmazonHistoryPrice its number of products, and invented names of some.
CATEGORIES = {
    "automotive": (7, ("Battery Charger", "Roof Rack", "Floor Mat Set", "Dash Camera", "Tyre Inflator")),
    "baby-products": (11, ("Stroller", "High Chair", "Car Seat", "Sleep Monitor", "Travel Cot")),
    "beauty": (12, ("Hair Dryer", "Face Serum", "Trimmer", "Perfume Set", "Make-up Mirror")),
    "books": (13, ("Field Guide", "Atlas", "Cookbook", "Novel Box Set", "Dictionary")),
    "electronics": (284, ("Headphones", "Laptop", "Monitor", "Camera Lens", "Speaker", "Tablet", "Router", "Keyboard")),
    "health-personal-care": (2, ("Shaver", "Massager", "Toothbrush", "Scale")),
    "home-kitchen": (23, ("Espresso Machine", "Blender", "Pan Set", "Vacuum Cleaner", "Duvet", "Table Lamp")),
    "industrial-scientific": (2, ("Microscope", "Caliper", "Label Printer", "Thermal Camera")),
    "movies-tv": (75, ("Film Collection", "Series Box Set", "Documentary Set", "Concert Film", "Animation Set")),
    "music": (5, ("Vinyl Box Set", "Live Album", "Piano Works", "Jazz Anthology")),
    "other": (288, ("Office Chair", "Backpack", "Wall Clock", "Storage Rack", "Guitar", "Printer", "Suitcase", "Desk")),
    "patio-lawn-garden": (10, ("Lawn Mower", "Patio Heater", "Garden Hose", "Gas Grill", "Leaf Blower")),
    "pet-supplies": (5, ("Dog Bed", "Cat Tree", "Pet Fountain", "Aquarium")),
    "software": (4, ("Photo Editor", "Tax Suite", "Language Course", "Backup Suite")),
    "sports-outdoors": (16, ("Tent", "Kayak", "Mountain Bike", "Rowing Machine", "Sleeping Bag")),
    "tools-home-improvement": (144, ("Cordless Drill", "Table Saw", "Tool Chest", "Sander", "Ladder", "Light Fixture")),
    "toys-games": (22, ("Board Game", "Building Set", "Toy Train", "Puzzle", "Drone")),
    "video-games": (7, ("Game Console", "Controller", "Racing Wheel", "Gaming Headset")),
}
SHARES = {name: share for name, (share, _) in CATEGORIES.items()}

BRANDS = (
    *("Aldera", "Bravik", "Corvona", "Delmero", "Elstow", "Farnholt", "Galvery", "Hestrin", "Ivelda", "Jorvane"),
    *("Keldric", "Lumaro", "Mirrelle", "Norvick", "Ostrava Hill", "Pellwood", "Quenby", "Rostane", "Silvarn"),
    *("Tremore", "Ulvane", "Verrick", "Wexlow", "Yarrowby"),
)
ADJECTIVES = (
    *("Compact", "Classic", "Premium", "Portable", "Advanced", "Quiet", "Heavy-Duty", "Lightweight", "Smart"),
    *("Deluxe", "Essential", "Professional", "Foldable", "Signature", "Everyday", "Extended"),
)
COLORS = ("Black", "White", "Slate Grey", "Navy Blue", "Forest Green", "Red", "Silver", "Sand")

OPENINGS = (
    "The {brand} {noun} does one job and does it well.",
    "{brand} built this {noun} for people who use theirs every day.",
    "A {noun} from {brand}, redesigned from the ground up.",
    "Meet the {noun} that {brand} owners recommend to their friends.",
    "This {noun} by {brand} is ready to use out of the box.",
)
BENEFITS = (
    "It is easy to set up and easy to look after.",
    "Careful materials keep it in good shape for years.",
    "It takes up little room and is simple to store.",
    "Every part can be replaced by hand.",
    "It was tested for a full year before it went on sale.",
)
USES = (
    "A sound choice for a first purchase.",
    "Makes a good present.",
    "Suited to home and travel alike.",
    "Made for long use by demanding owners.",
    "Works well for beginners and experts.",
)
EXTRAS = (
    "Two-year warranty from the maker",
    "Spare parts included in the box",
    "Printed guide in four languages",
    "Recycled packaging",
    "Free support by telephone",
    "Carrying case included",
    "Tested to European and American safety standards",
    "Ships within one working day",
    "Thirty days to return it",
    "Assembled by hand",
)
